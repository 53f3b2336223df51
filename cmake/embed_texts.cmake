# embed_texts(target HEADER graph/pack.h NAMESPACE culprit::graph TYPE PackText FUNCTION built_in_packs FILES a.yaml b.yaml)
#   The files become part of the program: std::span<const TYPE> FUNCTION(), each {name, text}, in the given order.
#   Run as a script (cmake -P) this file writes one such source file.
if(CMAKE_SCRIPT_MODE_FILE)
  set(out "#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\n\nstd::span<const ${TYPE}> ${FUNCTION}() {\n  static const ${TYPE} kTexts[] = {\n")
  string(REPLACE "|" ";" FILES "${FILES}")
  foreach(file IN LISTS FILES)
    get_filename_component(name ${file} NAME)
    file(READ ${file} text)
    string(APPEND out "      {\"${name}\", R\"embedded(${text})embedded\"},\n")
  endforeach()
  string(APPEND out "  };\n  return kTexts;\n}\n\n}  // namespace ${NAMESPACE}\n")
  file(WRITE ${OUT} "${out}")
  return()
endif()

set(CULPRIT_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})
function(embed_texts target)
  cmake_parse_arguments(arg "" "HEADER;NAMESPACE;TYPE;FUNCTION" "FILES" ${ARGN})
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${arg_FUNCTION}.cpp)
  list(JOIN arg_FILES "|" files)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DHEADER=${arg_HEADER} -DNAMESPACE=${arg_NAMESPACE} -DTYPE=${arg_TYPE}
            -DFUNCTION=${arg_FUNCTION} -DOUT=${out} "-DFILES=${files}" -P ${CULPRIT_EMBED_SCRIPT}
    DEPENDS ${arg_FILES} ${CULPRIT_EMBED_SCRIPT} COMMENT "Embedding the texts of ${arg_FUNCTION}" VERBATIM)
  set_source_files_properties(${out} PROPERTIES COMPILE_OPTIONS "$<$<CXX_COMPILER_ID:Clang>:-Wno-overlength-strings>")
  target_sources(${target} PRIVATE ${out})
endfunction()
